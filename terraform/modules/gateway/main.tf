locals {
  # Strangers reach it, so it takes events only where their senders prove who they are.
  manifest = { for k, v in var.manifest : k => v if k != "trigger" || var.sender_identity != null }
}

# The one service that the outside reaches.
module "function" {
  source = "../function"

  broker                      = var.broker
  canary                      = var.canary
  config                      = var.config
  dead_letter_sink            = var.dead_letter_sink
  dns                         = var.dns
  egress                      = var.egress
  environment                 = var.environment
  h2c                         = var.h2c
  image                       = var.image
  image_pull_policy           = var.image_pull_policy
  image_pull_secrets          = var.image_pull_secrets
  ingress                     = var.ingress
  internal_tls                = var.internal_tls
  kubectl                     = var.kubectl
  manifest                    = local.manifest
  mesh                        = var.mesh
  metrics_secret              = var.metrics_secret
  monitor                     = var.monitor
  name                        = var.manifest.name
  namespace                   = var.namespace
  public                      = true
  resources                   = var.resources
  scale                       = var.scale
  secret                      = var.secret
  sender_identity             = var.sender_identity
  service_account_annotations = var.service_account_annotations
  settings                    = var.settings
  signing_keys                = var.signing_keys
  timeout_seconds             = var.timeout_seconds
  traffic                     = var.traffic
}

resource "kubectl_manifest" "claim" {
  for_each = toset(var.hosts)

  server_side_apply = true
  force_conflicts   = true
  yaml_body = yamlencode({
    apiVersion = "networking.internal.knative.dev/v1alpha1"
    kind       = "ClusterDomainClaim"
    metadata   = { name = each.key }
    spec       = { namespace = var.namespace }
  })
}

resource "kubectl_manifest" "host" {
  for_each = toset(var.hosts)

  server_side_apply = true
  force_conflicts   = true
  yaml_body = yamlencode({
    apiVersion = "serving.knative.dev/v1beta1"
    kind       = "DomainMapping"
    metadata   = { name = each.key, namespace = var.namespace }
    spec       = { ref = { apiVersion = "serving.knative.dev/v1", kind = "Service", name = module.function.name } }
  })

  depends_on = [kubectl_manifest.claim]
}
