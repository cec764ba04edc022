output "service_account_annotations" {
  description = "For modules/product: which service account of Google each function acts as."
  value       = { for name in module.indexes.databases : name => { "iam.gke.io/gcp-service-account" = google_service_account.function[name].email } }
  depends_on  = [google_project_iam_member.function, google_service_account_iam_member.function]
}

output "stores" {
  description = "For modules/product: each function's database."
  value       = { for name in module.indexes.databases : name => { url = "firestore://${var.project}/${google_firestore_database.function[name].name}", cidrs = var.cidrs } }
  depends_on  = [google_firestore_index.function]
}
