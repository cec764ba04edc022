output "routes" {
  description = "The function of each route."
  value       = local.routes
}
