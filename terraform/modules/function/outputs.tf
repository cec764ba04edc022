output "audience" {
  description = "What the tokens of its senders are made for; null without sender identity."
  value       = try(var.sender_identity.audience, null)
}

output "name" {
  description = "Of the function, once it is ready and hears what it should."
  value       = var.name
  depends_on  = [module.wait, module.trigger_wait]
}

output "revision" {
  description = "Name of the latest revision, for `traffic`."
  value       = local.revision
}

output "service_account" {
  description = "Name of its ServiceAccount."
  value       = var.name
  depends_on  = [kubectl_manifest.service_account]
}
