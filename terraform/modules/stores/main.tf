module "indexes" {
  source = "../indexes"

  manifest = var.manifest
}

# A database per function: nobody else opens it.
resource "google_firestore_database" "function" {
  for_each = module.indexes.databases

  project                 = var.project
  name                    = "${var.namespace}-${each.key}"
  location_id             = var.location
  type                    = "FIRESTORE_NATIVE"
  delete_protection_state = var.delete_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  deletion_policy         = "DELETE"
}

resource "google_firestore_index" "function" {
  for_each = module.indexes.indexes

  project    = var.project
  database   = google_firestore_database.function[each.value.function].name
  collection = each.value.collection

  dynamic "fields" {
    for_each = each.value.paths
    content {
      field_path = fields.value
      order      = each.value.order
    }
  }
}

resource "google_firestore_field" "exempt" {
  for_each = module.indexes.exempt

  project    = var.project
  database   = google_firestore_database.function[each.value.function].name
  collection = each.value.collection
  field      = each.value.field

  index_config {}
}

# A service account per function, which its Kubernetes service account may act as, and which opens its database alone.
resource "google_service_account" "function" {
  for_each = module.indexes.databases

  project      = var.project
  account_id   = "${var.namespace}-${each.key}"
  display_name = "${each.key} of ${var.namespace}"
}

resource "google_service_account_iam_member" "function" {
  for_each = module.indexes.databases

  service_account_id = google_service_account.function[each.key].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[${var.namespace}/${each.key}]"
}

resource "google_project_iam_member" "function" {
  for_each = module.indexes.databases

  project = var.project
  role    = "roles/datastore.user"
  member  = google_service_account.function[each.key].member

  condition {
    title      = "own database"
    expression = "resource.name == \"projects/${var.project}/databases/${google_firestore_database.function[each.key].name}\""
  }
}
