variable "config" {
  description = "Environment variables that functions share, such as EBB_VERIFICATION_KEYS. A function gets those that it needs."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "deliveries" {
  description = "Delivery by function, where that differs from what it declares; \"*\" for all others: {retry, timeout}."
  type = map(object({
    retry   = optional(number)
    timeout = optional(string)
  }))
  default  = {}
  nullable = false
}

variable "environment" {
  description = "Further environment variables, such as OTEL_EXPORTER_OTLP_ENDPOINT."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "manifest" {
  description = "The functions of terraform/manifest.json."
  type        = any
  nullable    = false
}

variable "name" {
  description = "Of the product and its environment, such as shop-dev. All names begin with it."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,13}[a-z0-9]$", var.name)) && !startswith(var.name, "goog")
    error_message = "A name has two to 15 small letters, digits and hyphens and begins with a letter, since a service account has 30; not goog, which Pub/Sub refuses."
  }
}

variable "place" {
  description = "Where everything is: {project, number, region}."
  type = object({
    project = string
    number  = string
    region  = string
  })
  nullable = false
}

variable "secrets" {
  description = "Names of secrets of Secret Manager by function and variable; under \"*\" for each function that declares the variable. Their values are in no plan and no state."
  type        = map(map(string))
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue(flatten([for f in values(var.secrets) : [for s in values(f) : can(regex("^[A-Za-z][A-Za-z0-9_-]{0,254}$", s))]]))
    error_message = "A secret is given by its name in Secret Manager, such as shop-dev-signing-keys. Its value does not belong here."
  }
}

variable "settings" {
  description = "Settings by function: {orders = {EBB_ORDERS_STEP_DEADLINE = \"2m\"}}."
  type        = map(map(string))
  default     = {}
  nullable    = false
}
