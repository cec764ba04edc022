# What is said from outside, in a terraform.tfvars that terraform.tfvars.example shows.

variable "account" {
  description = "Number of the AWS account, said by name so that nothing lands in whichever one is current."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account))
    error_message = "An account has twelve digits."
  }
}

variable "alarm_actions" {
  description = "ARNs that are told of an alarm, such as an SNS topic's."
  type        = list(string)
  default     = []
}

variable "authorizer" {
  description = "An OpenID provider, {issuer, audiences}: the API lets only its tokens through to operations that no anonymous caller may use. Null: the functions alone check tokens."
  type = object({
    issuer    = string
    audiences = list(string)
  })
  default = null
}

variable "environment" {
  description = "Further environment variables of all functions, such as EBB_OIDC_ISSUER."
  type        = map(string)
  default     = {}
}

variable "memory" {
  description = "Memory of the sandboxes in MB, by function; \"*\" for all others."
  type        = map(number)
  default     = {}
}

variable "name" {
  description = "Of the product and its environment."
  type        = string
  default     = "shop-dev"
}

variable "origins" {
  description = "Origins whose scripts may call from a browser."
  type        = list(string)
  default     = []
}

variable "package" {
  description = "Path of the package; null: bin/lambda-arm64.zip, which make lambda builds."
  type        = string
  default     = null
}

variable "packages" {
  description = "Packages by function, where one rolls out alone."
  type        = map(string)
  default     = {}
}

variable "region" {
  description = "Of AWS."
  type        = string
}

variable "scale" {
  description = "Bounds of the sandboxes by function, \"*\" for all others: {reserved, events}."
  type        = map(object({ reserved = optional(number), events = optional(number) }))
  default     = {}
}

variable "secrets" {
  description = "ARNs of parameters of the Systems Manager, by function and variable; \"*\" for each function that declares the variable."
  type        = map(map(string))
}

variable "settings" {
  description = "Settings by function."
  type        = map(map(string))
  default     = {}
}

variable "verification_keys" {
  description = "The public JWK set that access tokens are checked with."
  type        = string
}
