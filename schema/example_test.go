package schema_test

import (
	"fmt"
	"log"
	"os"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/schema"
)

type parcelSent struct {
	Parcel string `json:"parcel"`
	Grams  int    `json:"grams"`
}
type parcelSentLater struct {
	Parcel string `json:"parcel"`
	Grams  string `json:"grams"` // what is stored has a number here
}

func (parcelSent) EventType() string      { return "parcels.sent" }
func (parcelSentLater) EventType() string { return "parcels.sent" }

// What events look like is exported once, kept with the code, and checked
// before each release: stored events stay readable.
func ExampleCheck() {
	dir, err := os.MkdirTemp("", "schemas-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	parcels := func(event courante.Payload) *courante.Service {
		s := courante.NewService("parcels")
		s.Emits(courante.Critical, event)
		return s
	}
	if _, err := schema.Export(dir, parcels(parcelSent{})); err != nil {
		log.Fatal(err)
	}
	findings, err := schema.Check(dir, parcels(parcelSentLater{}))
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range findings {
		fmt.Println(f.Event, f.State)
		for _, c := range f.Changes {
			fmt.Println(" ", c.Path, c.Detail)
		}
	}
	// Output:
	// parcels.sent breaks
	//   grams it was integer (-9223372036854775808 to 9223372036854775807) and is string
}
