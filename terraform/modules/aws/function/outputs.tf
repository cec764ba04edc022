output "arn" {
  description = "Of the Lambda function."
  value       = aws_lambda_function.function.arn
}

output "function_name" {
  description = "Its name in AWS."
  value       = aws_lambda_function.function.function_name
}

output "invoke_arn" {
  description = "For integrations of an HTTP API."
  value       = aws_lambda_function.function.invoke_arn
}

output "statements" {
  description = "What its role may do."
  value       = local.statements
}

output "table" {
  description = "Name of its table; null without one."
  value       = local.keeps ? aws_dynamodb_table.function[0].name : null
}
