output "object" {
  description = "The object, once its conditions are true."
  value       = terraform_data.wait.output
}
