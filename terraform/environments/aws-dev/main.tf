# The shop on AWS: Lambda, SNS and SQS, DynamoDB, an HTTP API. docs/deploy-aws.md leads through it.
module "shop" {
  source = "../../modules/aws/product"

  manifest = jsondecode(file("${path.module}/../../manifest.json"))
  name     = var.name
  account  = { id = var.account, region = var.region }

  alarm_actions       = var.alarm_actions
  authorizer          = var.authorizer
  deletion_protection = false
  environment         = var.environment
  log_days            = 7
  package             = coalesce(var.package, "${path.module}/../../../bin/lambda-arm64.zip")
  packages            = var.packages
  memory              = var.memory
  origins             = var.origins
  scale               = var.scale
  secrets             = var.secrets
  settings            = var.settings
  verification_keys   = var.verification_keys
}

output "functions" {
  description = "The names of the Lambda functions."
  value       = module.shop.functions
}

output "topics" {
  description = "ARNs of the topics of events and of dead letters."
  value       = module.shop.topics
}

output "url" {
  description = "Where the outside reaches the shop."
  value       = module.shop.url
}
