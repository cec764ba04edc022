variable "alarm_channels" {
  description = "Names of the notification channels that are told of an alarm."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "audience" {
  description = "The aud claim of access tokens."
  type        = string
  default     = "ebb"
  nullable    = false
}

variable "deletion_protection" {
  description = "Whether databases and services refuse to be deleted."
  type        = bool
  default     = true
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

variable "image" {
  description = "The image of every function that images does not name: make image pushes it to Artifact Registry."
  type        = string
  nullable    = false
}

variable "images" {
  description = "Images by function: each deploys alone."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "issuer" {
  description = "The iss claim of access tokens."
  type        = string
  default     = "ebb"
  nullable    = false
}

variable "manifest" {
  description = "terraform/manifest.json, decoded."
  type        = any
  nullable    = false

  validation {
    condition     = length([for f in values(var.manifest.functions) : f.name if try(f.front, false)]) == 1
    error_message = "Exactly one function of the manifest serves the outside (front)."
  }
}

variable "memory" {
  description = "Memory of the instances, by function; \"*\" for all others."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "name" {
  description = "Of the product and its environment, such as shop-dev. All names begin with it."
  type        = string
  nullable    = false
}

variable "network" {
  description = "The network that functions reach one another by."
  type        = string
  default     = "default"
  nullable    = false
}

variable "origins" {
  description = "Origins whose scripts may call from a browser."
  type        = list(string)
  default     = []
  nullable    = false
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

variable "scale" {
  description = "Bounds of the instances by function, \"*\" for all others: {min, max, concurrency}."
  type = map(object({
    min         = optional(number, 0)
    max         = optional(number, 10)
    concurrency = optional(number, 80)
  }))
  default  = {}
  nullable = false
}

variable "secrets" {
  description = "Names of secrets of Secret Manager by function and variable; under \"*\" for each function that declares the variable."
  type        = map(map(string))
  nullable    = false
}

variable "settings" {
  description = "Settings by function: {orders = {EBB_ORDERS_STEP_DEADLINE = \"2m\"}}."
  type        = map(map(string))
  default     = {}
  nullable    = false
}

variable "subnetwork" {
  description = "The subnet of the network in the region, with Private Google Access."
  type        = string
  default     = "default"
  nullable    = false
}

variable "verification_keys" {
  description = "The public JWK set that access tokens are checked with."
  type        = string
  nullable    = false
}
