package courante

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func manifestsOf(services []*Service) []Manifest {
	var manifests []Manifest
	for _, s := range services {
		manifests = append(manifests, s.Manifest())
	}
	return manifests
}

func TestManifestsOfASagaFitTogether(t *testing.T) {
	t.Parallel()
	// As they would come from elsewhere: through their JSON form.
	var manifests []Manifest
	for _, m := range manifestsOf(orderSaga()) {
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		read, err := ReadManifest(data)
		if err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(read)
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("a manifest that was read is written differently (%v):\n%s\n%s", err, data, again)
		}
		manifests = append(manifests, read)
	}
	reports, err := CheckManifests(manifests...)
	if err != nil {
		t.Fatal(err)
	}
	direct, err := CheckSagas(orderSaga(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(reports) != 1 || reports[0].States != direct[0].States {
		t.Errorf("the check of the manifests saw another saga than that of the services: %+v, %+v", reports, direct)
	}
}

func TestTheManifestsFormIsStable(t *testing.T) {
	t.Parallel()
	data, err := json.Marshal(smallSaga()[1].Manifest())
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"manifest":1,"service":"hotel","events":[` +
		`{"type":"shop.held","schema":1,"need":"critical"},{"type":"shop.refused","schema":1,"need":"critical"},{"type":"shop.released","schema":1,"need":"private"}],` +
		`"steps":[{"name":"hold room","on":"event","trigger":"shop.asked","unless":["shop.held","shop.refused","shop.released"],` +
		`"outcomes":[{"emits":["shop.held"]},{"emits":["shop.refused"],"fails":true}]},` +
		`{"name":"release room","on":"event","trigger":"shop.off","unless":["shop.released"],"outcomes":[{"emits":["shop.released"]}],"undoes":"hold room"}]}`
	if string(data) != want {
		t.Errorf("got  %s\nwant %s", data, want)
	}
}

type noticePosted struct {
	Text string `json:"text"`
}

func (noticePosted) EventType() string { return "shop.notice_posted" }

// A reaction declares, without saying so, which schema version it can read.
func TestAManifestTellsWhatAReactionCanRead(t *testing.T) {
	t.Parallel()
	board, reader := NewService("board"), NewService("reader")
	board.Emits(Critical, noticePosted{})
	NewCommand(board, Step{Name: "post", Outcomes: []Outcome{{Emits: Types(noticePosted{})}}})
	On(reader, Reaction[noticePosted]{Step: Step{Name: "read"}, Do: func(*Decision, noticePosted) error { return nil }})
	manifests := manifestsOf([]*Service{board, reader})
	if _, err := CheckManifests(manifests...); err != nil {
		t.Fatalf("two services that fit: %v", err)
	}
	manifests[0].Events[0].Schema = 2
	_, err := CheckManifests(manifests...)
	if err == nil || !strings.Contains(err.Error(), `reader: step "read" reads shop.notice_posted up to schema version 1, and board writes version 2; deploy a newer reader before board`) {
		t.Errorf("a reader that is too old: %v", err)
	}
}

func TestManifestsThatDoNotFit(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		flaw func([]Manifest) []Manifest
		want string
	}{
		{
			"an event that nobody emits", func(m []Manifest) []Manifest { return m[1:] },
			`hotel: step "hold room" reacts to shop.asked, which nobody emits`,
		},
		{
			"an event that is private", func(m []Manifest) []Manifest { m[0].Events[0].Need = Private; return m },
			`hotel: step "hold room" reacts to shop.asked, which is private to desk`,
		},
		{
			"an event with two owners", func(m []Manifest) []Manifest {
				m[1].Events = append(m[1].Events, m[0].Events[0])
				return m
			},
			"event type shop.asked is emitted by both desk and hotel",
		},
		{
			"a saga that does not pass", func(m []Manifest) []Manifest { m[0].Steps[1].Unless = m[0].Steps[1].Unless[:1]; return m },
			"a path ends both completed",
		},
		{
			"a step that a newer program knows", func(m []Manifest) []Manifest { m[0].Steps[1].On = "moon"; return m },
			`is run by a "moon", which this program does not know`,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := CheckManifests(c.flaw(manifestsOf(smallSaga()))...)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	for _, text := range []string{`{"manifest":2,"service":"desk"}`, `{"service":"desk"}`, `[]`, `{"manifest":1,"service":"d","events":[{"need":"soon"}]}`} {
		if _, err := ReadManifest([]byte(text)); err == nil {
			t.Errorf("%s was read", text)
		}
	}
}
