# The example of the README. The provider is mocked, but has to be there: see the README.
mock_provider "google" {}

variables {
  project   = "example"
  location  = "europe-west1"
  namespace = "shop"
  cidrs     = ["199.36.153.8/30"]
  manifest = {
    orders  = { name = "orders", collections = [{ name = "orders", indexes = [["customer", "placed"]] }] }
    gateway = { name = "gateway", front = true }
  }
}

run "of_one_function" {
  command = plan

  assert {
    condition     = output.stores.orders.url == "firestore://example/shop-orders"
    error_message = "A function's store is its own database."
  }
  assert {
    condition     = length(google_firestore_index.function) == 2 && length(google_firestore_field.exempt) == 2
    error_message = "It has the indexes that the manifest declares, and no others."
  }
  assert {
    condition     = google_project_iam_member.function["orders"].condition[0].expression == "resource.name == \"projects/example/databases/shop-orders\""
    error_message = "Its service account opens no other database."
  }
}
