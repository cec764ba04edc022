output "functions" {
  description = "The names of the services of Cloud Run."
  value       = { for name, s in local.services : name => s.name }
}

output "subscriptions" {
  description = "The subscriptions of the triggers, and what each is sent."
  value       = module.derived.subscriptions
}

output "topics" {
  description = "The names of the topics of events and of dead letters."
  value       = module.derived.topics
}

output "url" {
  description = "Where the outside reaches the product."
  value       = one([for name, s in local.services : module.derived.urls[name] if s.public])
}
