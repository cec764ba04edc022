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

variable "blobs" {
  description = "Name of the bucket for large events, as modules/aws/broker gives it; null without one."
  type        = string
  default     = null
}

variable "config" {
  description = "Environment variables that functions share, such as EBB_VERIFICATION_KEYS. A function gets those that it needs."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "dead_letters" {
  description = "ARNs of the queues of dead letters by their origin, which the function that takes dead letters reads."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "deletion_protection" {
  description = "Whether the table refuses to be deleted."
  type        = bool
  default     = true
  nullable    = false
}

variable "delivery" {
  description = "How events are delivered, where that differs from what the function declares: {retry, timeout, batch}."
  type = object({
    retry   = optional(number)
    timeout = optional(string)
    batch   = optional(number)
  })
  default  = {}
  nullable = false
}

variable "environment" {
  description = "Further environment variables, such as OTEL_EXPORTER_OTLP_ENDPOINT."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "log_days" {
  description = "How long log lines are kept."
  type        = number
  default     = 30
  nullable    = false
}

variable "manifest" {
  description = "The function's entry of terraform/manifest.json."
  type        = any
  nullable    = false
}

variable "memory" {
  description = "Memory of a sandbox in MB; its share of a processor follows from it."
  type        = number
  default     = 256
  nullable    = false
}

variable "name" {
  description = "Of the function."
  type        = string
  nullable    = false
}

variable "package" {
  description = "Path of the package that make lambda builds, for this architecture."
  type        = string
  nullable    = false
}

variable "prefix" {
  description = "Of the product and its environment, such as shop-dev. All names begin with it."
  type        = string
  nullable    = false
}

variable "queue" {
  description = "Its queue, as modules/aws/broker gives it: {arn, batch, timeout}; null without a trigger."
  type = object({
    arn     = string
    batch   = number
    timeout = number
  })
  default = null
}

variable "request_seconds" {
  description = "How long an answer to a request may take. An HTTP API waits for 30 s at most."
  type        = number
  default     = 30
  nullable    = false
}

variable "scale" {
  description = "Bounds of its sandboxes: reserved is the most that run, taken from the account's; events the most that handle events at once, from 2 on. Null: none of its own."
  type = object({
    reserved = optional(number)
    events   = optional(number)
  })
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
  description = "Where its secrets are: ARNs of parameters of the Systems Manager by variable. Their values are in no plan and no state."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for arn in values(var.secrets) : can(regex("^arn:[a-z-]+:ssm:[a-z0-9-]+:[0-9]{12}:parameter/", arn))])
    error_message = "A secret is named by the ARN of a parameter, such as arn:aws:ssm:eu-central-1:123456789012:parameter/shop/users/EBB_SIGNING_KEYS. Its value does not belong here."
  }
}

variable "secrets_key" {
  description = "ARN of the KMS key that the parameters are encrypted with; null: the account's own key of the Systems Manager."
  type        = string
  default     = null
}

variable "settings" {
  description = "Settings of the function."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "topics" {
  description = "ARNs of the topics, as modules/aws/broker gives them: {events, dead}."
  type        = map(string)
  nullable    = false
}
