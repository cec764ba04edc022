# It may read and change this one Secret, and nothing else.
resource "kubectl_manifest" "service_account" {
  server_side_apply = true
  force_conflicts   = true
  yaml_body = yamlencode({
    apiVersion                   = "v1"
    kind                         = "ServiceAccount"
    metadata                     = { name = var.name, namespace = var.namespace, labels = local.labels }
    automountServiceAccountToken = false # the pod of the CronJob asks for it
  })
}

resource "kubectl_manifest" "role" {
  server_side_apply = true
  force_conflicts   = true
  yaml_body = yamlencode({
    apiVersion = "rbac.authorization.k8s.io/v1"
    kind       = "Role"
    metadata   = { name = var.name, namespace = var.namespace, labels = local.labels }
    rules      = [{ apiGroups = [""], resources = ["secrets"], resourceNames = [var.secret], verbs = ["get", "update"] }]
  })
}

resource "kubectl_manifest" "role_binding" {
  server_side_apply = true
  force_conflicts   = true
  yaml_body = yamlencode({
    apiVersion = "rbac.authorization.k8s.io/v1"
    kind       = "RoleBinding"
    metadata   = { name = var.name, namespace = var.namespace, labels = local.labels }
    roleRef    = { apiGroup = "rbac.authorization.k8s.io", kind = "Role", name = var.name }
    subjects   = [{ kind = "ServiceAccount", name = var.name, namespace = var.namespace }]
  })

  depends_on = [kubectl_manifest.service_account, kubectl_manifest.role]
}
