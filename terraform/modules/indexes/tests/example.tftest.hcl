# The example of the README.
variables {
  manifest = {
    orders = { name = "orders", collections = [
      { name = "orders", indexes = [["customer", "status", "placed"], ["placed"]] },
      { name = "_inbox" },
    ] }
    gateway = { name = "gateway", front = true }
  }
}

run "of_a_manifest" {
  command = plan

  assert {
    condition     = output.databases == toset(["orders"])
    error_message = "Who stores nothing needs no database."
  }
  assert {
    condition = toset(keys(output.indexes)) == toset([
      "orders/orders/customer,status,placed/ASCENDING", "orders/orders/customer,status,placed/DESCENDING",
      "orders/orders/customer,status/ASCENDING", "orders/orders/customer,status/DESCENDING",
    ])
    error_message = "Every beginning of two or more fields is an index, in both directions."
  }
  assert {
    condition     = output.indexes["orders/orders/customer,status/DESCENDING"] == { function = "orders", collection = "orders", order = "DESCENDING", paths = ["keys.customer", "keys.status"] }
    error_message = "The values of fields lie under keys."
  }
  assert {
    condition     = toset(keys(output.exempt)) == toset(["orders/orders/data", "orders/orders/version", "orders/_inbox/data", "orders/_inbox/version"])
    error_message = "No query looks at the document's text or its version."
  }
}

run "of_this_repository" {
  command = plan

  variables {
    manifest = jsondecode(file("../../manifest.json")).functions
  }

  assert {
    condition     = !contains(output.databases, "gateway") && contains(output.databases, "orders")
    error_message = "Whoever keeps documents has a database."
  }
  assert {
    condition     = output.indexes["orders/orders/state.customer_id,state.id/ASCENDING"].paths == ["keys.`state.customer_id`", "keys.`state.id`"]
    error_message = "A name with a dot is quoted."
  }
}

run "strange_field" {
  command         = plan
  expect_failures = [output.indexes]

  variables {
    manifest = { orders = { name = "orders", collections = [{ name = "orders", indexes = [["_b", "c"]] }] } }
  }
}
