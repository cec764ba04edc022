locals {
  functions = var.manifest.functions
  front     = one([for name, f in local.functions : name if try(f.front, false)])
  signs     = one([for name, f in local.functions : name if contains([for s in try(f.settings, []) : s.variable], "EBB_SIGNING_KEYS")])
  behind    = toset([for name, f in local.functions : name if !try(f.front, false)])

  # What is said by function speaks of functions that there are. A capability that was renamed or a typo would
  # otherwise be left with the defaults.
  named = distinct(concat(
    [for by in [
      var.canaries, var.deliveries, var.egress, var.images, var.resources, var.scale, var.secrets,
      var.service_account_annotations, var.settings, var.stores, var.traffic,
    ] : keys(by)]...
  ))
  unknown = setsubtract(local.named, concat(["*"], keys(local.functions)))

  images    = { for name, f in local.functions : name => lookup(var.images, name, var.image) }
  tagged    = [for image in distinct(concat(values(local.images), values(var.canaries)[*].image)) : image if !can(regex("@sha256:[0-9a-f]{64}$", image))]
  forgetful = [for name, a in local.arguments : name if try(a.store.url, "") == "memory:"]

  arguments = { for name, f in local.functions : name => {
    delivery    = try(var.deliveries[name], var.deliveries["*"], {})
    egress      = try(var.egress[name], [])
    resources   = try(var.resources[name], var.resources["*"], {})
    scale       = try(var.scale[name], var.scale["*"], {})
    secret      = try(replace(try(var.secrets[name], var.secrets["*"]), "{function}", name), null)
    settings    = try(var.settings[name], {})
    annotations = try(var.service_account_annotations[name], {})
    store = length(try(f.collections, [])) == 0 ? null : try({
      url   = replace(try(var.stores[name], var.stores["*"]).url, "{function}", name)
      cidrs = try(var.stores[name], var.stores["*"]).cidrs
    }, null)
  } }
}

# What speaks of the whole manifest is checked here, before anything is made.
resource "terraform_data" "checks" {
  lifecycle {
    precondition {
      condition     = length(local.unknown) == 0
      error_message = "There is no function ${join(", ", local.unknown)}; there are ${join(", ", keys(local.functions))}."
    }
    precondition {
      condition     = var.signing_keys == null || local.signs != null
      error_message = "No function has the setting EBB_SIGNING_KEYS, so there are no signing keys to rotate."
    }
    precondition {
      condition     = !var.strict || length(local.tagged) == 0
      error_message = "Images are named by digest here, and not ${join(", ", local.tagged)}."
    }
    precondition {
      condition     = !var.strict || length(local.forgetful) == 0
      error_message = "${join(", ", local.forgetful)} would keep documents in memory."
    }
    precondition {
      condition     = !var.strict || var.sender_identity != null
      error_message = "Events are taken here from senders only that prove who they are: say sender_identity."
    }
  }
}

module "platform" {
  source = "../platform"

  broker            = var.broker
  dns               = var.dns
  kubectl           = var.kubectl
  labels            = var.labels
  manifest          = local.functions
  namespace         = var.namespace
  schedule          = var.schedule
  sender_identity   = var.sender_identity
  verification_keys = var.verification_keys
}

# The image of the function that has the private keys is also the one that rotates them.
module "keys" {
  source = "../keys"
  count  = var.signing_keys == null ? 0 : 1

  api_server         = var.signing_keys.api_server
  image              = local.images[local.signs]
  image_pull_policy  = var.image_pull_policy
  image_pull_secrets = var.image_pull_secrets
  keep               = var.signing_keys.keep
  lead               = var.signing_keys.lead
  namespace          = module.platform.namespace
  schedule           = var.signing_keys.schedule
  secret             = var.signing_keys.secret
}

module "function" {
  source   = "../function"
  for_each = local.behind

  broker                      = module.platform.broker
  canary                      = lookup(var.canaries, each.key, null)
  config                      = module.platform.config
  dead_letter_sink            = module.platform.dead_letter_sink
  delivery                    = local.arguments[each.key].delivery
  dns                         = module.platform.dns
  egress                      = local.arguments[each.key].egress
  environment                 = var.environment
  image                       = local.images[each.key]
  image_pull_policy           = var.image_pull_policy
  image_pull_secrets          = var.image_pull_secrets
  ingress                     = var.ingress
  internal_tls                = var.internal_tls
  kubectl                     = var.kubectl
  manifest                    = local.functions[each.key]
  mesh                        = var.mesh
  metrics_secret              = var.metrics_secret
  monitor                     = var.monitor
  name                        = each.key
  namespace                   = module.platform.namespace
  resources                   = local.arguments[each.key].resources
  scale                       = local.arguments[each.key].scale
  secret                      = local.arguments[each.key].secret
  sender_identity             = try(module.platform.sender_identity[each.key], null)
  service_account_annotations = local.arguments[each.key].annotations
  settings                    = local.arguments[each.key].settings
  signing_keys                = try(var.signing_keys.secret, null)
  store                       = local.arguments[each.key].store
  timeout_seconds             = var.timeout_seconds
  traffic                     = lookup(var.traffic, each.key, [])
  trigger_annotations         = var.trigger_annotations
}

module "gateway" {
  source = "../gateway"

  broker                      = module.platform.broker
  canary                      = lookup(var.canaries, local.front, null)
  config                      = module.platform.config
  dead_letter_sink            = module.platform.dead_letter_sink
  dns                         = module.platform.dns
  domain                      = var.domain
  egress                      = local.arguments[local.front].egress
  environment                 = var.environment
  h2c                         = var.h2c
  hosts                       = var.hosts
  image                       = local.images[local.front]
  image_pull_policy           = var.image_pull_policy
  image_pull_secrets          = var.image_pull_secrets
  ingress                     = var.ingress
  internal_tls                = var.internal_tls
  kubectl                     = var.kubectl
  manifest                    = local.functions[local.front]
  mesh                        = var.mesh
  metrics_secret              = var.metrics_secret
  monitor                     = var.monitor
  namespace                   = module.platform.namespace
  resources                   = local.arguments[local.front].resources
  scale                       = local.arguments[local.front].scale
  scheme                      = var.scheme
  secret                      = local.arguments[local.front].secret
  sender_identity             = try(module.platform.sender_identity[local.front], null)
  service_account_annotations = local.arguments[local.front].annotations
  settings                    = local.arguments[local.front].settings
  signing_keys                = try(var.signing_keys.secret, null)
  timeout_seconds             = var.timeout_seconds
  traffic                     = lookup(var.traffic, local.front, [])
}
