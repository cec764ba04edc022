output "name" {
  description = "Of the CronJob, once it may rotate."
  value       = var.name
  depends_on  = [kubectl_manifest.rotation]
}
