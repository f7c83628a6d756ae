package redis

import "testing"

func TestOutageIsWhatLasts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, looks string // at each look: . fine, x not, ! never reached
		want        string // after each look: b an outage has begun, e it is over
	}{
		{"a moment is none", "..x..xx..xxx.....", "                 "},
		{"it begins once and ends once", "xxxxxxx..........", "   b      e      "},
		{"a good moment does not end it", "xxxx.x..x...x....", "   b            e"},
		{"a Redis that is slow for long is one", "xxxx..xx...xxx...", "   b             "},
		{"a second one is told of again", "xxxx....xxxx....", "   b   e   b   e"},
		{"never reached, it begins at once", "!!!!....", "b      e"},
	} {
		var o outage
		for i, look := range tt.looks {
			got := byte(' ')
			switch began, ended := o.look(look == '.', look == '!'); {
			case began:
				got = 'b'
			case ended:
				got = 'e'
			}
			if got != tt.want[i] {
				t.Errorf("%s: look %d of %q gives %q, want %q", tt.name, i, tt.looks, got, tt.want[i])
			}
		}
	}
}
