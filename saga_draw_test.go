package courante

import (
	"strings"
	"testing"
)

func TestMermaidDrawsASaga(t *testing.T) {
	t.Parallel()
	g, err := BuildSaga(smallSaga(), "order")
	if err != nil {
		t.Fatal(err)
	}
	const want = `flowchart LR
  subgraph g0["desk"]
    s0(["ask"])
    s1["finish"]
    s2["call off"]
    s3["⏰ give up"]
  end
  subgraph g1["hotel"]
    s4["hold room"]
    s5["release room<br>undoes: hold room"]
  end
  e0(("✔<br>done"))
  e1(("↩<br>off"))
  s0 -->|asked| s4
  s0 -.->|⏰ reply| s3
  s1 -->|done| e0
  s2 -.-> x_shop_off[/off/]
  x_shop_off[/off/] -.-> s5
  x_shop_off[/off/] -.-> e1
  s3 -.-> x_shop_off[/off/]
  s4 -->|held| s1
  s4 -.->|refused| s2
  classDef pivot stroke-width:4px
  classDef undo stroke-dasharray:4 3
  class s5 undo
`
	if got := g.Mermaid(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTextDrawsASaga(t *testing.T) {
	t.Parallel()
	g, err := BuildSaga(smallSaga(), "order")
	if err != nil {
		t.Fatal(err)
	}
	const want = `saga order of desk: starts with asked, completed by done, compensated by off

STEP            ON              DOES                  UNDONE BY     UNTIL
desk
  ask           command         - asked                             deadline reply
  finish        held            - done, clears reply
  call off      refused         - off, clears reply
  give up       deadline reply  - off
hotel
  hold room     asked           - held                release room
                                - fails: refused
  release room  off             - released
`
	if got := g.Text(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestADrawingShowsPivotEffectsAndTheWayBack(t *testing.T) {
	t.Parallel()
	draw := func() string {
		g, err := BuildSaga(orderSaga(), "order")
		if err != nil {
			t.Fatal(err)
		}
		return g.Mermaid()
	}
	drawing := draw()
	for _, want := range []string{
		`{{"◆ arrange shipping"}}`,
		" -->|calls charge| ",
		" -.->|⏰ charge| ",
		" -.->|calls void| ",         // only the way back asks for it
		" -.->|shipping_cancelled| ", // follows from a cancellation, and from nothing else
		" -->|shipping_arranged| ",
		"[/order_cancelling/]",
	} {
		if !strings.Contains(drawing, want) {
			t.Errorf("the drawing has no %q:\n%s", want, drawing)
		}
	}
	if drawing != draw() {
		t.Error("two drawings of one saga differ")
	}
}

func TestBuildSagaFindsWhoTakesPart(t *testing.T) {
	t.Parallel()
	services := orderSaga()
	// A step beside the saga: neither it nor its event belongs to it.
	services[1].events["shop.stock_received"] = EventType{Name: "shop.stock_received", Schema: 1, Need: Private}
	services[1].commanded(Step{Name: "receive stock", Outcomes: []Outcome{{Emits: ev("stock_received")}}})
	bystander := declare("bystander", "slept").commanded(Step{Name: "sleep", Outcomes: []Outcome{{Emits: ev("slept")}}})
	g, err := BuildSaga(append(services, bystander), "order")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(g.Services, " "); got != "ordering inventory payment shipping notification" {
		t.Errorf("services: %s", got)
	}
	names := map[string]bool{}
	for _, st := range g.Steps {
		names[st.Name] = true
	}
	if names["receive stock"] || names["sleep"] || !names["cancel order"] || !names["record mail"] || len(g.Steps) != 27 {
		t.Errorf("steps: %v", names)
	}
}

func TestBuildSagaRefuses(t *testing.T) {
	t.Parallel()
	if _, err := BuildSaga(orderSaga(), "refund"); err == nil || !strings.Contains(err.Error(), "no service declares it") {
		t.Errorf("an unknown saga: %v", err)
	}
	services := smallSaga()
	services[0].sagas[0].Starts = "shop.wished"
	if _, err := BuildSaga(services, "order"); err == nil || !strings.Contains(err.Error(), "starts with shop.wished, which no step") {
		t.Errorf("a saga that never starts: %v", err)
	}
	services = smallSaga()
	services[1].sagas = services[0].sagas
	if _, err := BuildSagas(services); err == nil || !strings.Contains(err.Error(), "declared by desk and again by hotel") {
		t.Errorf("a saga declared twice: %v", err)
	}
}
