package fetch

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
)

func TestEveryStatusThatBringsNoFileSaysWhatToDo(t *testing.T) {
	for status := 200; status < 600; status++ {
		err := statusError(&http.Response{StatusCode: status})
		if http.StatusText(status) != "" && errkind.Hint(err) == "" {
			t.Errorf("%v: no hint", err)
		}
	}
	plain := &http.Response{StatusCode: http.StatusUnauthorized, Request: &http.Request{URL: &url.URL{}, Header: http.Header{}}}
	refused := &http.Response{StatusCode: http.StatusUnauthorized, Request: &http.Request{URL: &url.URL{}, Header: http.Header{"Authorization": {"Basic dTpw"}}}}
	if a, b := errkind.Hint(statusError(plain)), errkind.Hint(statusError(refused)); a == b {
		t.Errorf("with credentials and without: %q", a)
	}
}

func TestOnlyAStrongValidatorPinsAContent(t *testing.T) {
	const date, minuteBefore, justBefore = "Sat, 21 Nov 2026 10:01:00 GMT", "Sat, 21 Nov 2026 10:00:00 GMT", "Sat, 21 Nov 2026 10:00:01 GMT"
	for _, c := range []struct {
		tag, modified, date, want string
	}{
		{`"a"`, "", "", `"a"`},
		{`""`, "", "", `""`},
		{`"a"`, minuteBefore, date, `"a"`},
		{`W/"a"`, "", "", ""},
		{`W/"a"`, minuteBefore, date, ""}, // there is a tag, so a date may not be used
		{`a`, minuteBefore, date, ""},
		{`"`, "", "", ""},
		{"", minuteBefore, date, minuteBefore},
		{"", justBefore, date, ""},
		{"", minuteBefore, "", ""},
		{"", "yesterday", date, ""},
		{"", "", date, ""},
	} {
		h := http.Header{}
		for name, v := range map[string]string{"ETag": c.tag, "Last-Modified": c.modified, "Date": c.date} {
			if v != "" {
				h.Set(name, v)
			}
		}
		if got := strongValidator(h); got != c.want {
			t.Errorf("%v: %q, want %q", h, got, c.want)
		}
	}
}

func TestAContentRangeIsReadExactly(t *testing.T) {
	type r struct {
		from, to, size int64
		ok             bool
	}
	for s, want := range map[string]r{
		"bytes 0-0/1":                    {0, 0, 1, true},
		"bytes 5-9/10":                   {5, 9, 10, true},
		"bytes 5-9/*":                    {},
		"bytes */10":                     {},
		"bytes 9-5/10":                   {},
		"bytes 5-10/10":                  {},
		"bytes -5-9/10":                  {},
		"bytes +5-9/10":                  {},
		"bytes 5-9":                      {},
		"octets 5-9/10":                  {},
		"bytes 5-9/10 ":                  {},
		"":                               {},
		"bytes 5-9/99999999999999999999": {},
	} {
		from, to, size, ok := parseContentRange(s)
		if got := (r{from, to, size, ok}); got.ok != want.ok || got.ok && got != want {
			t.Errorf("%q: %+v, want %+v", s, got, want)
		}
	}
}

func TestADateThatPinnedTheContentMustStayTheSame(t *testing.T) {
	h := http.Header{"Last-Modified": {"b"}, "Etag": {`"new"`}}
	if otherContent(h, "b") || !otherContent(h, "a") || !otherContent(h, `"a"`) || otherContent(http.Header{}, `"a"`) {
		t.Error("wrong")
	}
}
