package terminal

import "google.golang.org/protobuf/proto"

// PrintMessage prints a message of a stream: as one line of JSON if the format is json or yaml,
// else the text.
func (s *Streams) PrintMessage(m proto.Message, text string) error {
	out := []byte(Line(text) + "\n")
	if s.Output.String() != "text" && s.Output != "wide" {
		var err error
		if out, err = encode(m, ""); err != nil {
			return err
		}
	}
	_, err := s.Stdout.Write(out)
	return err
}
