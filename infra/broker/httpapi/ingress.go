package httpapi

import (
	"errors"
	"net/http"

	"github.com/ebb-dev/ebb/infra/problem"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/httpevent"
)

// ingress publishes the events of a POST request.
func (f *Handler) ingress(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
	case http.MethodOptions:
		w.Header().Set("Allow", "OPTIONS, POST")
		w.WriteHeader(http.StatusNoContent)
		return
	default:
		w.Header().Set("Allow", "OPTIONS, POST")
		problem.Write(w, r, fault.New(fault.Invalid, "method not allowed: use POST").WithStatus(http.StatusMethodNotAllowed))
		return
	}
	events, err := f.read(w, r)
	if err == nil {
		err = f.broker.Publish(r.Context(), events...)
	}
	if err != nil {
		f.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// refuse answers with a problem document. An invalid event is 400, as the broker's specification requires.
func (f *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var e *fault.Error
	if errors.As(err, &e) && e.Kind == fault.Invalid && e.Status == 0 {
		err = e.WithStatus(http.StatusBadRequest)
	}
	switch fault.KindOf(err) {
	case fault.Internal, fault.Unavailable, fault.Timeout:
		f.cfg.Logger.Warn("request failed", "error", err)
	}
	problem.Write(w, r, err)
}

// read returns the events of a request.
func (f *Handler) read(w http.ResponseWriter, r *http.Request) ([]ce.Event, error) {
	body, err := httpevent.Body(w, r, f.cfg.MaxBody)
	if err != nil {
		return nil, err
	}
	return httpevent.Read(r.Header, body)
}
