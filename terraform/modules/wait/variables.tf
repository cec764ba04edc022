variable "conditions" {
  description = "The conditions of the object's status that have to be true."
  type        = list(string)
  default     = ["Ready"]
  nullable    = false
}

variable "kubectl" {
  description = "The kubeconfig and the context that kubectl uses; null is its own default."
  type = object({
    kubeconfig = optional(string)
    context    = optional(string)
  })
  default  = {}
  nullable = false
}

variable "namespace" {
  description = "Where the object is."
  type        = string
  nullable    = false
}

variable "object" {
  description = "What is waited for, as kubectl says it: broker/default."
  type        = string
  nullable    = false
}

variable "seconds" {
  description = "For how long."
  type        = number
  default     = 180
  nullable    = false
}

variable "version_of_it" {
  description = "What changes when the object does: then it is waited for again."
  type        = any
  nullable    = false
}
