package config

// Setting is a setting with its value, as it may be shown, and where that comes from.
type Setting struct {
	Variable    string `json:"variable"`
	Value       string `json:"value" doc:"Masked if it is a secret; without the password of a URL."`
	Origin      string `json:"origin" doc:"environment, FILE:LINE, consul KEY, parameter, host, default, or unset."`
	Reload      bool   `json:"reload" doc:"A change counts without a restart."`
	Pending     bool   `json:"pending,omitempty" doc:"Its source has another value by now, which counts after a restart."`
	Description string `json:"description,omitempty"`
}

// The origins of values that no source beside the environment has.
const (
	FromEnvironment = "environment"
	FromParameter   = "parameter" // of the platform, which the environment names
	FromHost        = "host"      // what runs the function gives it the value
	FromDefault     = "default"
	Unset           = "unset"
)

// Report is the settings of a process at one moment.
type Report struct {
	Settings []Setting
	Refused  string // why the last change of a source was refused; "": none was
}

// Origin is one place that values come from.
type Origin struct {
	Name   string
	Lookup Lookup
	Secret bool // all of its values are masked
}

// ReportOf returns the settings of variables. A value is that of the first origin that has one that is not empty, or
// else the default.
func ReportOf(variables []Variable, origins ...Origin) Report {
	r := Report{Settings: make([]Setting, 0, len(variables))}
	for _, v := range variables {
		s := Setting{Variable: v.Name, Value: v.Default, Origin: FromDefault, Reload: v.Reload, Description: v.Desc}
		secret := v.Secret
		if v.Default == "" {
			s.Origin = Unset
		}
		for _, o := range origins {
			if text := o.get(v); text != "" {
				s.Value, s.Origin, secret = text, o.Name, secret || o.Secret
				break
			}
		}
		s.Value = Mask(s.Value, secret)
		r.Settings = append(r.Settings, s)
	}
	return r
}

// get returns the value of a variable, by either of its names.
func (o Origin) get(v Variable) string {
	if o.Lookup == nil {
		return ""
	}
	for _, name := range []string{v.Name, v.Also} {
		if text, _ := o.Lookup(name); name != "" && text != "" {
			return text
		}
	}
	return ""
}

// Given returns a copy of the report with the values that the host gives to the function where no source has one. It
// masks them, because the host makes keys and passwords.
func (r Report) Given(host Lookup) Report {
	given := Report{Settings: make([]Setting, len(r.Settings)), Refused: r.Refused}
	for i, s := range r.Settings {
		if text, _ := host(s.Variable); text != "" && (s.Origin == FromDefault || s.Origin == Unset) {
			s.Value, s.Origin = Mask(text, true), FromHost
		}
		given.Settings[i] = s
	}
	return given
}
