package app

import (
	"fmt"
	"strings"
)

// welcome says where the system is and what to try: commands to copy, that
// work one after the other.
func (s *system) welcome() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s is ready: %s\nData is in %s\n", capital(s.p.app.Name), s.url(), s.dir)
	b.WriteString("\nTry, in another terminal:\n\n")
	if s.p.app.Welcome != nil {
		s.p.app.Welcome(&b, s.url(), s.dataFlag())
	}
	more := NewTable(s.p.own("  courante events tail --from start")+s.dataFlag(), "# every event, as it happens")
	more.Row(s.p.own("  courante routes"), "# who listens to what")
	more.Row("  "+s.url()+"/docs", "# the API, in a browser")
	more.Write(&b)
	b.WriteString("\nCtrl-C stops.\n")
	return b.String()
}

func capital(name string) string { return strings.ToUpper(name[:1]) + name[1:] }

// dataFlag is how other commands find this system, if not by themselves.
func (s *system) dataFlag() string {
	if s.server == nil || s.p.Globals.Data == "./courante-data" {
		return ""
	}
	return " --data " + quote(s.p.Globals.Data)
}
