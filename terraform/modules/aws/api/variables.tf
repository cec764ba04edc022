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

variable "api" {
  description = "The HTTP API: {id, name}. It is made by others, because the gateway has its address."
  type = object({
    id   = string
    name = string
  })
  nullable = false
}

variable "authorizer" {
  description = "An OpenID provider, {issuer, audiences}: the API lets only its tokens through to operations that no anonymous caller may use. Null: the functions alone check tokens."
  type = object({
    issuer    = string
    audiences = list(string)
  })
  default = null

  validation {
    condition     = var.authorizer == null || can(regex("^https://[^?#]+$", var.authorizer.issuer)) && try(length(var.authorizer.audiences) > 0, false)
    error_message = "An issuer is an https address without a query, as the iss claim has it, and there is an audience at least."
  }
}

variable "functions" {
  description = "The Lambda functions by name: {arn, function_name, invoke_arn}."
  type = map(object({
    arn           = string
    function_name = string
    invoke_arn    = string
  }))
  nullable = false
}

variable "log_days" {
  description = "How long lines about requests are kept."
  type        = number
  default     = 30
  nullable    = false
}

variable "manifest" {
  description = "The functions of terraform/manifest.json: each of their routes leads to its function, and all else to the one that serves the outside (front)."
  type        = any
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
