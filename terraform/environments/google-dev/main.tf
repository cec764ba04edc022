# The shop on Google Cloud: Cloud Run, Pub/Sub, Firestore. docs/deploy-google.md leads through it.
module "shop" {
  source = "../../modules/google/product"

  manifest = jsondecode(file("${path.module}/../../manifest.json"))
  name     = var.name
  place    = var.place

  alarm_channels      = var.alarm_channels
  deletion_protection = false
  image               = var.image
  images              = var.images
  memory              = var.memory
  network             = var.network
  origins             = var.origins
  scale               = var.scale
  secrets             = var.secrets
  settings            = var.settings
  subnetwork          = var.subnetwork
  verification_keys   = var.verification_keys
}

output "functions" {
  description = "The names of the services of Cloud Run."
  value       = module.shop.functions
}

output "topics" {
  description = "The names of the topics of events and of dead letters."
  value       = module.shop.topics
}

output "url" {
  description = "Where the outside reaches the shop."
  value       = module.shop.url
}
