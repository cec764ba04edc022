module github.com/ebb-dev/ebb/cmd/passwords

go 1.26.0

require (
	github.com/FastFilter/xorfilter v0.5.1
	github.com/trustelem/zxcvbn v1.0.1
)
