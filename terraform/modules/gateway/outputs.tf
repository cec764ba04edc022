output "revision" {
  description = "Name of its latest revision, for `traffic`."
  value       = module.function.revision
}

output "url" {
  description = "Where the outside reaches it."
  value       = "${var.scheme}://${try(var.hosts[0], "${module.function.name}.${var.namespace}.${var.domain}")}"
}
