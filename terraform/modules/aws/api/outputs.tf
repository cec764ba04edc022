output "guarded" {
  description = "The routes that only a token of the authorizer passes."
  value       = local.guarded
}

output "routes" {
  description = "The function of each route."
  value       = local.routes
}
