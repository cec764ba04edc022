output "broker" {
  description = "For the functions: its name and the pods that take events in."
  value       = { name = var.broker.name, ingress = local.ingress }
  depends_on  = [module.broker_wait]
}

output "config" {
  description = "For the functions: the ConfigMap of what they share."
  value       = { name = "ebb", keys = keys(local.shared), sha256 = sha256(jsonencode(local.shared)) }
  depends_on  = [kubectl_manifest.config]
}

output "dead_letter_sink" {
  description = "Name of the function that takes dead letters."
  value       = local.dead_letter_sink
}

output "dns" {
  description = "For the functions: where names are resolved."
  value       = var.dns
}

output "namespace" {
  description = "Its name, once it is there and closed."
  value       = var.namespace
  depends_on  = [kubectl_manifest.namespace, kubectl_manifest.deny]
}

# Knative makes a service account for each Trigger and each source: NAME-oidc-GROUP-KIND. A function is sent events by
# its own Trigger and, when it ticks, by its PingSource; dead letters are sent by everybody's Trigger.
output "sender_identity" {
  description = "For the functions, by name: what they need to know their senders. Null without it."
  value = var.sender_identity == null ? null : { for name, m in var.manifest : name => {
    api_server                = var.sender_identity.api_server
    audience                  = local.audiences[name]
    dead_letter_sink_audience = local.audiences[local.dead_letter_sink]
    senders = [for sender in concat(
      [for n, other in var.manifest : "${n}-oidc-eventing.knative.dev-trigger" if try(other.trigger, null) != null && (n == name || name == local.dead_letter_sink)],
      [for n in [name] : "${n}-oidc-sources.knative.dev-pingsource" if try(m.ticks, false)],
    ) : "system:serviceaccount:${var.namespace}:${sender}"]
  } if try(m.trigger, null) != null }
}
