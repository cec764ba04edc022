output "functions" {
  description = "The names of the Lambda functions."
  value       = { for name, f in module.function : name => f.function_name }
}

output "guarded" {
  description = "The routes that only a token of the authorizer passes."
  value       = module.api.guarded
}

output "queues" {
  description = "The queues of the triggers, and what each is sent."
  value       = { for name, q in module.broker.queues : name => merge(q, { policy = module.broker.policies[name] }) }
}

output "routes" {
  description = "The function of each route."
  value       = module.api.routes
}

output "statements" {
  description = "What each function may do."
  value       = { for name, f in module.function : name => f.statements }
}

output "topics" {
  description = "ARNs of the topics of events and of dead letters."
  value       = module.broker.topics
}

output "url" {
  description = "Where the outside reaches the product."
  value       = aws_apigatewayv2_api.api.api_endpoint
}
