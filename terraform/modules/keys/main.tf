locals {
  labels = {
    "app.kubernetes.io/name"       = var.name
    "app.kubernetes.io/part-of"    = "ebb"
    "app.kubernetes.io/managed-by" = "terraform"
  }
}

# The next key waits for var.lead, so that the Secret has reached every pod before it signs. A run that was missed or
# comes twice changes nothing: while a key waits there is no other.
resource "kubectl_manifest" "rotation" {
  server_side_apply = true
  force_conflicts   = true
  yaml_body = yamlencode({
    apiVersion = "batch/v1"
    kind       = "CronJob"
    metadata   = { name = var.name, namespace = var.namespace, labels = local.labels }
    spec = {
      schedule                   = var.schedule
      concurrencyPolicy          = "Forbid"
      startingDeadlineSeconds    = 3600
      successfulJobsHistoryLimit = 1
      failedJobsHistoryLimit     = 3
      jobTemplate = {
        metadata = { labels = local.labels }
        spec = {
          backoffLimit          = 5
          activeDeadlineSeconds = 600
          template = {
            metadata = { labels = local.labels }
            spec = merge(
              {
                serviceAccountName           = var.name
                automountServiceAccountToken = true
                enableServiceLinks           = false
                restartPolicy                = "Never"
                securityContext              = { runAsNonRoot = true, seccompProfile = { type = "RuntimeDefault" } }
                containers = [{ for k, v in {
                  name            = "rotate-keys"
                  image           = var.image
                  imagePullPolicy = var.image_pull_policy
                  args            = ["rotate-keys", "--secret", var.secret, "--in", var.lead, "--keep", var.keep]
                  resources       = { requests = { cpu = "25m", memory = "32Mi" }, limits = { memory = "128Mi" } }
                  securityContext = {
                    allowPrivilegeEscalation = false
                    capabilities             = { drop = ["ALL"] }
                    readOnlyRootFilesystem   = true
                  }
                } : k => v if v != null }]
              },
              { for k in ["imagePullSecrets"] : k => [for name in var.image_pull_secrets : { name = name }] if length(var.image_pull_secrets) > 0 },
            )
          }
        }
      }
    }
  })

  depends_on = [kubectl_manifest.role_binding, kubectl_manifest.network_policy]
}
