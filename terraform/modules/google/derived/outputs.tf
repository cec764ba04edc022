output "alarms" {
  description = "What somebody should look at, by name: {filter, aligner, threshold, says}."
  value       = local.alarms
}

output "grants" {
  description = "What each function may do: {function, role, on, of}, by key."
  value       = local.grants
}

output "services" {
  description = "The services of Cloud Run, by function: {name, public, pushed, env, secrets, timeout}."
  value       = local.services

  precondition {
    condition     = length(local.unknown) == 0
    error_message = "There is no function ${join(", ", local.unknown)}; there are ${join(", ", keys(local.functions))}."
  }
  precondition {
    condition     = length(local.long) == 0
    error_message = "The names of ${join(", ", local.long)} are too long behind ${var.name}-: a service account has 30 characters."
  }
  precondition {
    condition     = length(local.unknown_settings) == 0
    error_message = "These settings are not declared: ${join(", ", local.unknown_settings)}."
  }
  precondition {
    condition     = length(local.secret_settings) == 0
    error_message = "These settings are secret: name the secret that has the value, in secrets: ${join(", ", local.secret_settings)}."
  }
  precondition {
    condition     = length(local.missing_settings) == 0
    error_message = "These settings are required and have no value: ${join(", ", local.missing_settings)}."
  }
}

output "subscriptions" {
  description = "The subscriptions, by name: {function, topic, filter, ordered, attempts, seconds, dead, endpoint, audience}."
  value       = local.subscriptions
}

output "ticks" {
  description = "Functions that tick, with the address that is told the time."
  value       = { for name in local.ticks : name => local.urls[name] }
}

output "topics" {
  description = "The names of the topics of events and of dead letters."
  value       = local.topics
}

output "urls" {
  description = "Where each service is."
  value       = local.urls
}
