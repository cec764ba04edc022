package archive

import (
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/ebb-dev/ebb/infra/personal"
)

// A transform that sets a personal field to a constant has personal data in its text. The text names no person, so that
// the erasure of a person does not find it. Therefore the archive never shows such a transform, encrypts it under the
// system's key while its mend runs, and removes it when the mend has ended, also when it was stopped: to go on, an
// operator starts another mend.

// hiddenText stands in place of a transform that may have personal data in it. It is not a valid expression, so that an
// older version of the archive, which does not know the encrypted transform, stops the job.
const hiddenText = "…"

// maySayPersonal reports whether a transform may set a personal field of some event type to what its text says: it
// names a member as such a field is called, or computes a name, and has a constant.
func (a *archive) maySayPersonal(x *expression) bool {
	if x == nil {
		return false
	}
	members := map[string]bool{}
	for _, info := range a.types().All() {
		fields := personal.FieldsOf(info.GoType)
		if fields == nil {
			continue
		}
		for name := range fields.Placeholders() {
			members[name[strings.LastIndexByte(name, '.')+1:]] = true
		}
	}
	names, writes, says := map[int64]bool{}, false, false // the ids of constants that are names
	x.visit(func(e ast.Expr) {
		switch e.Kind() {
		case ast.MapKind:
			for _, entry := range e.AsMap().Entries() {
				key := entry.AsMapEntry().Key()
				name, constant := textOf(key)
				names[key.ID()] = constant
				writes = writes || !constant || members[name]
			}
		case ast.CallKind:
			if call := e.AsCall(); call.FunctionName() == operators.Index {
				names[call.Args()[1].ID()] = true
			}
		}
	})
	x.visit(func(e ast.Expr) {
		if e.Kind() == ast.LiteralKind && !names[e.ID()] {
			switch e.AsLiteral().(type) {
			case types.Bool, types.Null:
			default:
				says = true
			}
		}
	})
	return writes && says
}

// textOf returns the text of a constant.
func textOf(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	text, ok := e.AsLiteral().(types.String)
	return string(text), ok
}

// sealTransform encrypts the transform of a job that is about to start.
func (a *archive) sealTransform(id string, job *mendJob) error {
	key, wrapped, err := a.personalKeys.New()
	if err != nil {
		return err
	}
	sealed, err := key.Seal(map[string]string{"transform": job.Transform}, transformPurpose(id))
	if err != nil {
		return err
	}
	job.Personal, job.Transform, job.Sealed, job.Key = true, hiddenText, sealed, wrapped
	return nil
}

// transformOf returns the transform of a job.
func (a *archive) transformOf(id string, job *mendJob) (string, error) {
	if !job.Personal {
		return job.Transform, nil
	}
	key, err := a.personalKeys.Unwrap(job.Key)
	if err != nil {
		return "", err
	}
	values, err := key.Open(job.Sealed, transformPurpose(id))
	return values["transform"], err
}

func transformPurpose(id string) string { return "transform of the mend " + id }
