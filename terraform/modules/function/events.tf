# What it says goes to the broker. The binding is ready before there is a Service, so that Knative's webhook makes the
# Service with it: a named revision cannot be changed afterwards. It finds the Service by label, since a binding whose
# subject is a name is not ready, and has no token to send with, before there is one of that name.
resource "kubectl_manifest" "sink_binding" {
  count = length(local.says) > 0 ? 1 : 0

  server_side_apply = true
  force_conflicts   = true
  yaml_body = yamlencode({
    apiVersion = "sources.knative.dev/v1"
    kind       = "SinkBinding"
    metadata   = { name = var.name, namespace = var.namespace, labels = local.labels }
    spec = {
      subject = {
        apiVersion = "serving.knative.dev/v1"
        kind       = "Service"
        namespace  = var.namespace
        selector   = { matchLabels = { "app.kubernetes.io/name" = var.name } }
      }
      sink = { ref = { apiVersion = "eventing.knative.dev/v1", kind = "Broker", namespace = var.namespace, name = var.broker.name } }
    }
  })

}

module "sink_binding_wait" {
  source = "../wait"
  count  = length(local.says) > 0 ? 1 : 0

  kubectl       = var.kubectl
  namespace     = var.namespace
  object        = "sinkbindings.sources.knative.dev/${var.name}"
  version_of_it = [kubectl_manifest.sink_binding[0].uid, sha256(kubectl_manifest.sink_binding[0].yaml_body_parsed)]
}

# What it hears comes from the broker, and what it cannot take goes to the dead-letter sink.
resource "kubectl_manifest" "trigger" {
  count = local.trigger == null ? 0 : 1

  server_side_apply = true
  force_conflicts   = true
  yaml_body = yamlencode({
    apiVersion = "eventing.knative.dev/v1"
    kind       = "Trigger"
    metadata = {
      name        = var.name
      namespace   = var.namespace
      labels      = local.labels
      annotations = var.trigger_annotations
    }
    spec = {
      broker  = var.broker.name
      filters = try(local.trigger.filters, [])
      subscriber = merge(
        { ref = local.reference[var.name], uri = "/events" },
        { for k, v in { audience = try(var.sender_identity.audience, null) } : k => v if v != null },
      )
      delivery = merge(
        {
          retry         = local.trigger.retry
          backoffPolicy = local.trigger.backoff
          backoffDelay  = local.iso.delay
          timeout       = local.iso.timeout
        },
        { for k, v in { deadLetterSink = local.dead_letter_sink } : k => v if v != null },
      )
    }
  })

  lifecycle {
    precondition {
      condition     = var.dead_letter_sink != null || try(var.manifest.dead_letters, false)
      error_message = "${var.name} hears events and nobody takes its dead letters."
    }
  }

  depends_on = [kubectl_manifest.service]
}

module "trigger_wait" {
  source = "../wait"
  count  = local.trigger == null ? 0 : 1

  kubectl       = var.kubectl
  namespace     = var.namespace
  object        = "triggers.eventing.knative.dev/${var.name}"
  version_of_it = [kubectl_manifest.trigger[0].uid, sha256(kubectl_manifest.trigger[0].yaml_body_parsed)]
}

locals {
  reference = {
    for name in toset(compact([var.name, var.dead_letter_sink])) :
    name => { apiVersion = "serving.knative.dev/v1", kind = "Service", namespace = var.namespace, name = name }
  }
  dead_letter_sink = var.dead_letter_sink == null || var.dead_letter_sink == var.name ? null : merge(
    { ref = local.reference[var.dead_letter_sink], uri = "/events" },
    { for k, v in { audience = try(var.sender_identity.dead_letter_sink_audience, null) } : k => v if v != null },
  )
}
