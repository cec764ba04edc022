module "shop" {
  source = "../../modules/product"

  manifest  = jsondecode(file("${path.module}/../../manifest.json"))
  namespace = coalesce(var.namespace, local.environment.namespace)

  broker              = local.environment.broker
  labels              = { "ebb.dev/environment" = local.environment.name }
  resources           = local.environment.resources
  scale               = local.environment.scale
  strict              = local.environment.strict
  trigger_annotations = local.environment.trigger_annotations

  canaries                    = var.canaries
  deliveries                  = var.deliveries
  dns                         = var.dns
  domain                      = var.domain
  egress                      = var.egress
  environment                 = var.environment
  hosts                       = var.hosts
  image                       = var.image
  image_pull_policy           = var.image_pull_policy
  image_pull_secrets          = var.image_pull_secrets
  images                      = var.images
  ingress                     = var.ingress
  scheme                      = var.scheme
  kubectl                     = { kubeconfig = var.kubeconfig, context = var.kube_context }
  internal_tls                = var.internal_tls
  mesh                        = var.mesh
  metrics_secret              = var.metrics_secret
  monitor                     = var.monitor
  secrets                     = var.secrets
  sender_identity             = var.sender_identity
  service_account_annotations = var.service_account_annotations
  settings                    = var.settings
  signing_keys                = var.signing_keys
  stores                      = var.stores
  traffic                     = var.traffic
  verification_keys           = var.verification_keys
}

output "namespace" {
  description = "Where everything is."
  value       = module.shop.namespace
}

output "revisions" {
  description = "The latest revision of each function."
  value       = module.shop.revisions
}

output "url" {
  description = "Where the outside reaches the shop."
  value       = module.shop.url
}
