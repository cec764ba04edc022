variable "account" {
  description = "Where everything is: {id, region, partition}. Names of resources are made from it, so that policies are whole in a plan."
  type = object({
    id        = string
    region    = string
    partition = optional(string, "aws")
  })
  nullable = false
}

variable "blobs" {
  description = "Whether there is a bucket for events of more than 256 KiB. Without one they are refused when they are published."
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

variable "manifest" {
  description = "The functions of terraform/manifest.json. Each with a trigger gets its queue; the one with dead_letters gets that of the dead letters."
  type        = any
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

variable "retention_days" {
  description = "How long events wait in a queue that nothing takes them from, and dead letters likewise. Fourteen days is the most that SQS knows."
  type        = number
  default     = 14
  nullable    = false
}
