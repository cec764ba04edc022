locals {
  kubectl = join(" ", concat(
    ["kubectl"],
    [for c in [var.kubectl.context] : "--context='${c}'" if c != null],
    ["--namespace='${var.namespace}'"],
  ))
  waits = [for c in var.conditions : "${local.kubectl} wait '${var.object}' --for=condition=${c} --timeout=${var.seconds}s >/dev/null"]
  # What is amiss is what the object itself says.
  why = "${local.kubectl} get '${var.object}' -o jsonpath='{range .status.conditions[*]}{.type}={.status} {.message}{\"\\n\"}{end}' >&2"
}

resource "terraform_data" "wait" {
  triggers_replace = var.version_of_it
  input            = var.object

  provisioner "local-exec" {
    quiet       = true
    command     = "{ ${join(" && ", local.waits)}; } || { ${local.why}; exit 1; }"
    environment = { for k, v in { KUBECONFIG = var.kubectl.kubeconfig } : k => pathexpand(v) if v != null }
  }
}
