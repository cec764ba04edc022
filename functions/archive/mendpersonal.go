package archive

import (
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/ebb-dev/ebb/infra/personal"
)

// The text of a transform that sets a personal field to a constant contains personal data. The archive does not know
// whose, so the erasure of that person cannot destroy it. Therefore the archive shows such a transform to no user,
// stores it encrypted with the system's key while its mend runs, and deletes it when the mend is done or has stopped.
// An operator who wants to continue a stopped one starts another mend.

// hiddenText replaces a transform that may contain personal data, in answers and in the stored job. It is not a valid
// expression: an older version of the archive, which does not know mendJob.Sealed, stops the mend.
const hiddenText = "…"

// mayContainPersonal reports whether the text of a transform may contain personal data: it sets a member that has the
// name of a personal field of an event type, or a computed name, and has a constant that is no name, no boolean and not
// null.
func (a *archive) mayContainPersonal(x *expression) bool {
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
	names, sets, hasConstant := map[int64]bool{}, false, false // the ids of constants that are names
	x.visit(func(e ast.Expr) {
		switch e.Kind() {
		case ast.MapKind:
			for _, entry := range e.AsMap().Entries() {
				key := entry.AsMapEntry().Key()
				name, constant := textOf(key)
				names[key.ID()] = constant
				sets = sets || !constant || members[name]
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
				hasConstant = true
			}
		}
	})
	return sets && hasConstant
}

// textOf returns the text of a constant. ok is false for every other expression.
func textOf(e ast.Expr) (text string, ok bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	constant, ok := e.AsLiteral().(types.String)
	return string(constant), ok
}

// sealTransform replaces the transform of a new job by hiddenText and its encrypted form.
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

// transformOf returns the transform of a job, which it decrypts if it is sealed.
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

// transformPurpose returns what a sealed transform is bound to: it cannot be opened for another job.
func transformPurpose(id string) string { return "transform of the mend " + id }
