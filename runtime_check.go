package courante

import (
	"errors"
	"fmt"
)

func (rt *Runtime) check() []error {
	var problems []error
	if rt.cfg.Database == nil {
		problems = append(problems, errors.New("runtime: Config.Database is missing"))
	}
	if len(rt.cfg.Services)+len(rt.cfg.Relays) == 0 {
		problems = append(problems, errors.New("runtime: Config.Services is empty"))
	}
	if len(rt.cfg.Relays) > 0 && rt.cfg.Broker == nil {
		problems = append(problems, errors.New("runtime: Config.Relays without a Broker"))
	}
	logs := map[string]bool{}
	for _, s := range rt.cfg.Sources {
		logs[s.Log()] = true
	}
	emitters, problems := rt.checkForeign(problems)
	for _, m := range rt.cfg.Services {
		if m.Service == nil || m.Store == nil {
			problems = append(problems, errors.New("runtime: a mount needs a service and a store"))
			continue
		}
		s := m.Service
		if m.Store.Log() != s.name {
			problems = append(problems, fmt.Errorf("service %s: its store holds the log of %q", s.name, m.Store.Log()))
		}
		if s.node != nil {
			problems = append(problems, fmt.Errorf("service %s: belongs to another runtime already", s.name))
		}
		if _, ok := m.Store.(SharedStore); rt.cfg.Shared && !ok {
			problems = append(problems, fmt.Errorf("service %s: its store cannot be shared with other processes", s.name))
		}
		logs[s.name] = true
		problems = append(problems, s.problems...)
		for _, t := range s.emitted {
			if other := emitters[t.Name]; other != "" {
				problems = append(problems, fmt.Errorf("event type %s is emitted by both %s and %s; an event has one owner", t.Name, other, s.name))
			}
			emitters[t.Name] = s.name
		}
		problems = append(problems, s.checkSteps()...)
	}
	if len(problems) > 0 {
		return problems
	}
	for _, m := range rt.cfg.Services {
		for _, typ := range m.Service.types {
			if emitters[typ] == "" && len(rt.cfg.Sources) == 0 {
				problems = append(problems, fmt.Errorf("service %s reacts to %s, which nobody emits", m.Service.name, typ))
			}
			from := emitters[typ]
			if from == "" || from == m.Service.name {
				continue
			}
			switch need := rt.needOf(from, typ); {
			case need == Private:
				problems = append(problems, fmt.Errorf("service %s reacts to %s, which is private to %s", m.Service.name, typ, from))
			case need != Critical && rt.cfg.Broker != nil && rt.foreign(from) != nil:
				problems = append(problems, fmt.Errorf("service %s reacts to %s, which is %s: the broker brings only what is critical from service %s in another process", m.Service.name, typ, need, from))
			}
		}
	}
	return problems
}

// checkForeign returns who emits what of the services in other processes, and
// adds what is wrong with them to the problems.
func (rt *Runtime) checkForeign(problems []error) (map[string]string, []error) {
	emitters := map[string]string{}
	for _, f := range rt.cfg.Foreign {
		if f.Service == nil {
			problems = append(problems, errors.New("runtime: a foreign service needs a declaration"))
			continue
		}
		name := f.Service.name
		if f.Store == nil && rt.cfg.Broker == nil {
			problems = append(problems, fmt.Errorf("runtime: nothing brings the events of service %s: it needs a broker, or a store to read", name))
		}
		if f.Store != nil && f.Store.Log() != name {
			problems = append(problems, fmt.Errorf("runtime: the store of foreign service %s holds the log of %q", name, f.Store.Log()))
		}
		for _, t := range f.Service.emitted {
			emitters[t.Name] = name
		}
	}
	return emitters, problems
}

// foreign is the service of that name in another process, nil if there is none.
func (rt *Runtime) foreign(name string) *Foreign {
	for i := range rt.cfg.Foreign {
		if f := &rt.cfg.Foreign[i]; f.Service.name == name {
			return f
		}
	}
	return nil
}

// storeOf is the store that holds a log, nil if this process has no access to
// it.
func (rt *Runtime) storeOf(log string) Store {
	if t := rt.tails[log]; t != nil {
		return t.store
	}
	if f := rt.foreign(log); f != nil {
		return f.Store
	}
	return nil
}

// checkSagas refuses services whose sagas do not end well on every path. Those
// with steps in other programs are checked there, from the manifests.
func (rt *Runtime) checkSagas() error {
	if len(rt.cfg.Sources)+len(rt.cfg.Foreign) > 0 {
		return nil
	}
	var services []*Service
	for _, m := range rt.cfg.Services {
		services = append(services, m.Service)
	}
	reports, err := CheckSagas(services, 0)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range reports {
		errs = append(errs, r.Err())
	}
	return errors.Join(errs...)
}

func (rt *Runtime) needOf(service, typ string) Need {
	for _, m := range rt.cfg.Services {
		if m.Service.name == service {
			return m.Service.events[typ].Need
		}
	}
	if f := rt.foreign(service); f != nil {
		return f.Service.events[typ].Need
	}
	return 0
}

// checkSteps finds what a declaration names and nobody declares.
func (s *Service) checkSteps() []error {
	var problems []error
	deadlines := map[string]bool{}
	for _, d := range s.deadlines {
		deadlines[d.trigger.deadline] = true
	}
	for _, st := range s.steps {
		for _, o := range st.Outcomes {
			for _, name := range o.Emits {
				if _, ok := s.events[name]; !ok {
					problems = append(problems, fmt.Errorf("service %s: step %q emits %s, which the service does not declare with Emits", s.name, st.Name, name))
				}
			}
			for _, name := range o.Asks {
				if s.effects[name] == nil {
					problems = append(problems, fmt.Errorf("service %s: step %q asks for effect %q, which is not declared", s.name, st.Name, name))
				}
			}
			for _, name := range o.Sets {
				if !deadlines[name] {
					problems = append(problems, fmt.Errorf("service %s: step %q sets deadline %q, which has no OnDeadline", s.name, st.Name, name))
				}
			}
		}
	}
	return problems
}
