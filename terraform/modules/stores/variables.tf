variable "cidrs" {
  description = "Where pods reach Firestore. private.googleapis.com is 199.36.153.8/30, once the cluster's DNS leads there."
  type        = list(string)
  nullable    = false
}

variable "delete_protection" {
  description = "Whether a destroy leaves the databases alone, with an error."
  type        = bool
  default     = true
  nullable    = false
}

variable "location" {
  description = "Of the databases, such as europe-west1."
  type        = string
  nullable    = false
}

variable "manifest" {
  description = "The functions of terraform/manifest.json."
  type        = any
  nullable    = false
}

variable "namespace" {
  description = "The product's namespace: databases and service accounts are named NAMESPACE-FUNCTION."
  type        = string
  nullable    = false
}

variable "project" {
  description = "The Google Cloud project of databases, service accounts and workload identities."
  type        = string
  nullable    = false
}
