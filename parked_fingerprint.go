package courante

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
	"unicode"
)

// fingerprint is the same for messages that fail alike: of one reaction, with
// one cause but for what differs from message to message, or by a panic in one
// place. It is short enough to type.
func fingerprint(p *Parked, panicked bool) string {
	alike := normalCause(p)
	if panicked {
		alike = strings.Join(panicFrames(p.Stack, 3), "\n")
	}
	sum := sha256.Sum256([]byte(p.Subscriber + "\x00" + p.Reaction + "\x00" + alike))
	return hex.EncodeToString(sum[:6])
}

var (
	quotedText = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|'[^']*'|` + "`[^`]*`")
	// A word with what hangs on it, as in order:17, 10.0.0.1:5432 or abc-9-x.
	wholeWord = regexp.MustCompile(`[\pL\pN_]+(?:[.:@/+-]+[\pL\pN_]+)*`)
	joints    = regexp.MustCompile(`[.:@/+-]+`)
)

// normalCause is the cause without what names the one message: its key and
// stream, quoted values, and all words with a digit in them, which are ids,
// numbers, times and addresses.
func normalCause(p *Parked) string {
	own := map[string]bool{p.Key: true, p.Event.Stream: true, p.Event.Correlation: true, p.Event.Subject: true}
	text := quotedText.ReplaceAllString(p.Cause, "#")
	text = wholeWord.ReplaceAllStringFunc(text, func(word string) string {
		named := own[word] || strings.ContainsFunc(word, unicode.IsDigit)
		for _, part := range joints.Split(word, -1) {
			named = named || own[part]
		}
		if named {
			return "#"
		}
		return word
	})
	return strings.Join(strings.Fields(text), " ")
}

// panicFrames are the functions in which a panic happened, the innermost first.
// Without lines: what is deployed next has others.
func panicFrames(stack string, most int) []string {
	if _, after, found := strings.Cut(stack, "\npanic("); found {
		stack = "panic(" + after
	}
	var frames []string
	for line := range strings.Lines(stack) {
		end := strings.LastIndexByte(line, '(') // its arguments follow
		if end < 0 || strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "runtime.") || line[:end] == "panic" {
			continue
		}
		if frames = append(frames, line[:end]); len(frames) == most {
			break
		}
	}
	return frames
}
