package replay

// countries are the names in the file and their codes of ISO 3166-1 alpha-2.
// Where a name is no country, the code is the closest place that a parcel can
// be sent to; the file gives no address that would tell more.
var countries = map[string]string{
	"Australia":            "AU",
	"Austria":              "AT",
	"Bahrain":              "BH",
	"Belgium":              "BE",
	"Brazil":               "BR",
	"Canada":               "CA",
	"Channel Islands":      "JE", // Jersey or Guernsey; Jersey is the larger
	"Cyprus":               "CY",
	"Czech Republic":       "CZ",
	"Denmark":              "DK",
	"EIRE":                 "IE",
	"European Community":   "BE", // its seat
	"Finland":              "FI",
	"France":               "FR",
	"Germany":              "DE",
	"Greece":               "GR",
	"Hong Kong":            "HK",
	"Iceland":              "IS",
	"Israel":               "IL",
	"Italy":                "IT",
	"Japan":                "JP",
	"Lebanon":              "LB",
	"Lithuania":            "LT",
	"Malta":                "MT",
	"Netherlands":          "NL",
	"Norway":               "NO",
	"Poland":               "PL",
	"Portugal":             "PT",
	"RSA":                  "ZA",
	"Saudi Arabia":         "SA",
	"Singapore":            "SG",
	"Spain":                "ES",
	"Sweden":               "SE",
	"Switzerland":          "CH",
	"USA":                  "US",
	"United Arab Emirates": "AE",
	"United Kingdom":       "GB",
	"Unspecified":          "GB", // the seller's own

	// Names of the second year's file ("Online Retail II").
	"Bermuda":     "BM",
	"Korea":       "KR",
	"Nigeria":     "NG",
	"Thailand":    "TH",
	"West Indies": "VG", // the British ones
}
