package provision

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/trident-project/trident/internal/linux/regfile"
)

const (
	maxReport   = 1 << 20 // bytes
	headerTime  = 10 * time.Second
	bodyTime    = time.Minute // of a report
	idleTime    = 2 * time.Minute
	maxSendTime = 6 * time.Hour // of one response, such as a whole image on a slow line
	maxHeader   = 16 << 10
)

// overlay is a file with other bytes in some places. It implements io.ReaderAt and, before it
// is read, io.WriterAt.
type overlay struct {
	of       *os.File
	size     int64
	modified time.Time
	patches  []patchAt
}

type patchAt struct {
	offset int64
	data   []byte
}

func (o *overlay) WriteAt(p []byte, offset int64) (int, error) {
	o.patches = append(o.patches, patchAt{offset, append([]byte(nil), p...)})
	return len(p), nil
}

func (o *overlay) ReadAt(p []byte, offset int64) (int, error) {
	n, err := o.of.ReadAt(p, offset)
	for _, one := range o.patches {
		from, to := max(offset, one.offset), min(offset+int64(n), one.offset+int64(len(one.data)))
		if from < to {
			copy(p[from-offset:to-offset], one.data[from-one.offset:])
		}
	}
	return n, err
}

// report is the body of trident.phonehome.
type report struct {
	State   string `json:"state"`
	Message string `json:"message"`
	address string
}

// serve begins to serve the images and to accept reports.
func (r *Run) serve(iso *overlay) error {
	r.iso = iso
	mux := http.NewServeMux()
	mux.HandleFunc("GET /"+r.secret+"/live.iso", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/x-iso9660-image")
		http.ServeContent(w, req, "", iso.modified, io.NewSectionReader(iso, 0, iso.size))
	})
	mux.HandleFunc("POST /"+r.secret+"/phonehome", r.phonehome)
	mux.HandleFunc("POST /"+r.secret+"/tracestream", func(w http.ResponseWriter, req *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
		_, _ = io.Copy(io.Discard, io.LimitReader(req.Body, maxReport))
	})
	if r.options.Image != "" {
		f, err := regfile.Open(r.options.Image)
		if err != nil {
			return fmt.Errorf("open image: %w", err)
		}
		r.files = append(r.files, f)
		info, err := f.Stat()
		if err != nil {
			return fmt.Errorf("open image: %w", err)
		}
		mux.HandleFunc("GET /"+r.secret+"/image.cosi", func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("ETag", fmt.Sprintf("%q", fmt.Sprintf("%s-%d-%d", r.secret, info.Size(), info.ModTime().UnixNano())))
			http.ServeContent(w, req, "", info.ModTime(), io.NewSectionReader(f, 0, info.Size()))
		})
	}
	r.server = &http.Server{
		Handler: mux, ReadHeaderTimeout: headerTime, WriteTimeout: maxSendTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(r.options.Logger.Handler(), slog.LevelDebug),
	}
	r.serving.Go(func() { _ = r.server.Serve(r.web) })
	return nil
}

// phonehome takes a report. It keeps the first one that comes after the reboot and says how
// the servicing ended: before the reboot the connection says more.
func (r *Run) phonehome(w http.ResponseWriter, req *http.Request) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
	var got report
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxReport)).Decode(&got); err != nil {
		http.Error(w, "the body is not a report", http.StatusBadRequest)
		return
	}
	if (got.State != "succeeded" && got.State != "failed") || !r.machine.isRebooting() {
		return
	}
	got.address, _, _ = net.SplitHostPort(req.RemoteAddr)
	select {
	case r.reports <- got:
	default:
	}
}
