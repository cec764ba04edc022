# What is said from outside, in a terraform.tfvars that terraform.tfvars.example shows.

variable "alarm_channels" {
  description = "Names of the notification channels that are told of an alarm."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "image" {
  description = "The image of every function that images does not name."
  type        = string
}

variable "images" {
  description = "Images by function, where one rolls out alone."
  type        = map(string)
  default     = {}
}

variable "memory" {
  description = "Memory of the instances, by function; \"*\" for all others."
  type        = map(string)
  default     = {}
}

variable "name" {
  description = "Of the product and its environment."
  type        = string
  default     = "shop-dev"
}

variable "network" {
  description = "The network that functions reach one another by."
  type        = string
  default     = "default"
}

variable "origins" {
  description = "Origins whose scripts may call from a browser."
  type        = list(string)
  default     = []
}

variable "place" {
  description = "Where everything is, said by name so that nothing lands in whichever project is current."
  type        = object({ project = string, number = string, region = string })
}

variable "scale" {
  description = "Bounds of the instances by function, \"*\" for all others: {min, max, concurrency}."
  type        = map(object({ min = optional(number, 0), max = optional(number, 10), concurrency = optional(number, 80) }))
  default     = {}
}

variable "secrets" {
  description = "Names of secrets of Secret Manager, by function and variable; \"*\" for each function that declares the variable."
  type        = map(map(string))
}

variable "settings" {
  description = "Settings by function."
  type        = map(map(string))
  default     = {}
}

variable "subnetwork" {
  description = "The subnet of the network in the region, with Private Google Access."
  type        = string
  default     = "default"
}

variable "verification_keys" {
  description = "The public JWK set that access tokens are checked with."
  type        = string
}
