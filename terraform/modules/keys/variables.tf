variable "api_server" {
  description = "The API server's addresses after its Service: kubectl get endpoints kubernetes."
  type = object({
    cidrs = list(string)
    port  = optional(number, 6443)
  })
  nullable = false

  validation {
    condition     = length(var.api_server.cidrs) > 0
    error_message = "Keys rotate through the API server: say its addresses."
  }
}

variable "image" {
  description = "The image of cmd/function, best by digest."
  type        = string
  nullable    = false
}

variable "image_pull_policy" {
  description = "Always, IfNotPresent or Never; null leaves it to Kubernetes."
  type        = string
  default     = null
}

variable "image_pull_secrets" {
  description = "Names of the Secrets that a private registry is read with. They are made by others."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "keep" {
  description = "How long a key is kept after its last token: EBB_ACCESS_TTL at least."
  type        = string
  default     = "1h"
  nullable    = false

  validation {
    condition     = can(regex("^([0-9.]+(h|m|s))+$", var.keep))
    error_message = "The time to keep a key is a duration such as 1h30m."
  }
}

variable "lead" {
  description = "After this time a new key signs: longer than a changed Secret needs to reach every pod, which is some two minutes."
  type        = string
  default     = "1h"
  nullable    = false

  validation {
    condition     = can(regex("^([0-9.]+(h|m))+$", var.lead))
    error_message = "The lead of a new key is a duration such as 1h30m."
  }
}

variable "name" {
  description = "Of everything that is made here."
  type        = string
  default     = "rotate-keys"
  nullable    = false
}

variable "namespace" {
  description = "The platform's namespace."
  type        = string
  nullable    = false
}

variable "schedule" {
  description = "When keys rotate, as cron says it, in the time zone of the cluster."
  type        = string
  default     = "17 3 1 * *"
  nullable    = false
}

variable "secret" {
  description = "Name of the Secret with the keys, as the members signing.json and verification.json. It is made by others, and changed here."
  type        = string
  nullable    = false
}
