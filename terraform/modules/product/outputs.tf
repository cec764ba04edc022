output "namespace" {
  description = "Where everything is."
  value       = module.platform.namespace
}

output "revisions" {
  description = "The latest revision of each function, for `traffic`."
  value       = merge({ for name, f in module.function : name => f.revision }, { (local.front) = module.gateway.revision })
}

output "url" {
  description = "Where the outside reaches the product."
  value       = module.gateway.url
}
