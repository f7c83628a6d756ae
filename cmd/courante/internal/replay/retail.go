package replay

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // the file's times are those of London, also where no zones are installed
	"unicode/utf8"
)

// columns is the header of an Online Retail file.
var columns = []string{"InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"}

// row is one line of the file, read and judged.
type row struct {
	line        int // where it begins in the file; the header is line 1
	invoice     string
	sku         string
	description string
	quantity    int64
	at          time.Time
	price       string
	customer    string // "" if it is missing
	country     string

	kind  kind
	cause Cause // why it is refused, "" if it is not
	minor int64 // the price in minor units, of an order line
}

// kind is what a line asks for.
type kind int

const (
	refusedLine kind = iota
	goodsLine
	chargeLine
	returnLine
	adjustmentLine
)

// readRetail reads the lines of an Online Retail file. A line that is damaged
// or cannot be taken comes as a row with its cause; an error ends the file,
// because where the next line begins is not known any more.
func readRetail(src *source) iter.Seq2[row, error] {
	return func(yield func(row, error) bool) {
		london, err := time.LoadLocation("Europe/London")
		if err != nil {
			yield(row{}, err)
			return
		}
		in := csv.NewReader(src.text)
		in.ReuseRecord = true
		if err := header(in); err != nil {
			yield(row{}, err)
			return
		}
		in.FieldsPerRecord = len(columns)
		last := 1
		for {
			src.meter.reset()
			fields, err := in.Read()
			if errors.Is(err, io.EOF) {
				return
			}
			if src.meter.failed != nil {
				err = src.meter.failed // what the half line before it looks like means nothing
			}
			if err != nil && !errors.Is(err, csv.ErrFieldCount) {
				yield(row{}, broken(last, err))
				return
			}
			line, _ := in.FieldPos(0)
			last = line
			if !yield(parse(line, fields, london), nil) {
				return
			}
		}
	}
}

func header(in *csv.Reader) error {
	fields, err := in.Read()
	if err == nil && slices.Equal(fields, columns) {
		return nil
	}
	if err != nil && !errors.As(err, new(*csv.ParseError)) {
		return unreadable(0, err)
	}
	return fmt.Errorf("line 1 is neither the header of an Online Retail file (%s) nor a JSON object", strings.Join(columns, ","))
}

// broken is the error of a file whose lines cannot be told apart any more.
func broken(last int, err error) error {
	var parse *csv.ParseError
	if errors.As(err, &parse) {
		return fmt.Errorf("line %d: a quote that is not closed, or stands inside a field: the lines after it cannot be told apart", parse.StartLine)
	}
	return unreadable(last, err)
}

// parse makes a row of the fields and judges it.
func parse(line int, fields []string, zone *time.Location) row {
	r := row{line: line}
	if len(fields) != len(columns) {
		r.cause = damagedColumns
		return r
	}
	for _, f := range fields {
		if !utf8.ValidString(f) || strings.IndexByte(f, 0) >= 0 {
			r.cause = damagedText
			return r
		}
	}
	r.sku, r.description, r.price, r.customer, r.country = fields[1], fields[2], fields[5], fields[6], fields[7]
	var err error
	if r.quantity, err = strconv.ParseInt(fields[3], 10, 64); err != nil {
		r.cause = damagedNumber
		return r
	}
	if r.at, err = time.ParseInLocation(time.DateTime, fields[4], zone); err != nil {
		r.cause = damagedTime
		return r
	}
	r.invoice = fields[0] // only of a line that is whole: it counts for its invoice
	r.judge()
	return r
}
