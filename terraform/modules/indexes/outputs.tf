output "databases" {
  description = "The functions that need one."
  value       = toset(keys(local.stateful))
}

output "exempt" {
  description = "Fields that no query looks at: {function, collection, field}, by key."
  value       = local.exempt
}

output "indexes" {
  description = "Composite indexes: {function, collection, paths, order}, by key."
  value       = local.indexes

  precondition {
    condition     = length(local.strange) == 0
    error_message = "The fields of these indexes have names that infra/store/firestore/layout changes, which is not done here: ${join(" ", local.strange)}."
  }
}
