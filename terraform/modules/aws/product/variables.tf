variable "account" {
  description = "Where everything is: {id, region, partition}."
  type = object({
    id        = string
    region    = string
    partition = optional(string, "aws")
  })
  nullable = false
}

variable "alarm_actions" {
  description = "ARNs that are told of an alarm, such as an SNS topic's."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "architecture" {
  description = "Of the package: arm64 or x86_64."
  type        = string
  default     = "arm64"
  nullable    = false

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "An architecture is arm64 or x86_64."
  }
}

variable "audience" {
  description = "The aud claim of access tokens."
  type        = string
  default     = "ebb"
  nullable    = false
}

variable "authorizer" {
  description = "An OpenID provider, {issuer, audiences}: the API lets only its tokens through to operations that no anonymous caller may use. Null: the functions alone check tokens."
  type = object({
    issuer    = string
    audiences = list(string)
  })
  default = null
}

variable "blobs" {
  description = "Whether there is a bucket for events of more than 256 KiB. Without one they are refused when they are published."
  type        = bool
  default     = true
  nullable    = false
}

variable "deletion_protection" {
  description = "Whether the table refuses to be deleted."
  type        = bool
  default     = true
  nullable    = false
}

variable "deliveries" {
  description = "Delivery by function, where that differs from what it declares; \"*\" for all others: {retry, timeout, batch}."
  type = map(object({
    retry   = optional(number)
    timeout = optional(string)
    batch   = optional(number)
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

variable "issuer" {
  description = "The iss claim of access tokens."
  type        = string
  default     = "ebb"
  nullable    = false
}

variable "log_days" {
  description = "How long log lines are kept."
  type        = number
  default     = 30
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
  description = "Memory of the sandboxes in MB, by function; \"*\" for all others."
  type        = map(number)
  default     = {}
  nullable    = false
}

variable "name" {
  description = "Of the product and its environment, such as shop-dev. All names begin with it."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,30}$", var.name))
    error_message = "A name has up to 31 small letters, digits and hyphens, and begins with a letter."
  }
}

variable "origins" {
  description = "Origins whose scripts may call from a browser."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "package" {
  description = "Path of the package of every function that packages does not name: make lambda builds bin/lambda-arm64.zip."
  type        = string
  nullable    = false
}

variable "packages" {
  description = "Packages by function: each deploys alone."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "retention_days" {
  description = "How long events wait in a queue that nothing takes them from, and dead letters likewise. Fourteen days is the most that SQS knows."
  type        = number
  default     = 14
  nullable    = false
}

variable "scale" {
  description = "Bounds of the sandboxes by function, \"*\" for all others: {reserved, events}, as modules/aws/function takes them."
  type = map(object({
    reserved = optional(number)
    events   = optional(number)
  }))
  default  = {}
  nullable = false
}

variable "schedule" {
  description = "When a function that ticks is woken. A minute is the finest that the Scheduler knows."
  type        = string
  default     = "rate(1 minute)"
  nullable    = false
}

variable "secrets" {
  description = "Where secrets are, by function and variable; under \"*\" for each function that declares the variable: ARNs of parameters of the Systems Manager."
  type        = map(map(string))
  nullable    = false
}

variable "secrets_key" {
  description = "ARN of the KMS key that the parameters are encrypted with; null: the account's own key of the Systems Manager."
  type        = string
  default     = null
}

variable "settings" {
  description = "Settings by function: {orders = {EBB_ORDERS_STEP_DEADLINE = \"2m\"}}."
  type        = map(map(string))
  default     = {}
  nullable    = false
}

variable "throttling" {
  description = "Requests a second that the API takes, and how many more at once; further ones are answered with 429."
  type = object({
    rate  = optional(number, 500)
    burst = optional(number, 1000)
  })
  default  = {}
  nullable = false
}

variable "verification_keys" {
  description = "The public JWK set that access tokens are checked with."
  type        = string
  nullable    = false
}
