variable "manifest" {
  description = "The functions of terraform/manifest.json."
  type        = any
  nullable    = false
}
