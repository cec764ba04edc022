package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// batch is a PublishBatch: the parameters of its entries by their number.
type batch struct {
	topic   string
	entries map[int]url.Values
}

const (
	member   = "PublishBatchRequestEntries.member."
	formType = "application/x-www-form-urlencoded"
)

// publishBatch returns the entries of a request to SNS that publishes several messages. The request keeps its body.
func publishBatch(r *http.Request) (batch, bool) {
	if r.Method != http.MethodPost || !strings.HasPrefix(r.Header.Get("Content-Type"), formType) {
		return batch{}, false
	}
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, parseErr := url.ParseQuery(string(body))
	if err != nil || parseErr != nil || form.Get("Action") != "PublishBatch" {
		return batch{}, false
	}
	b := batch{topic: form.Get("TopicArn"), entries: map[int]url.Values{}}
	for name, values := range form {
		rest, ok := strings.CutPrefix(name, member)
		number, parameter, found := strings.Cut(rest, ".")
		n, err := strconv.Atoi(number)
		if !ok || !found || err != nil {
			continue
		}
		if b.entries[n] == nil {
			b.entries[n] = url.Values{}
		}
		b.entries[n][parameter] = values
	}
	return b, true
}

// publish sends a Publish for each entry, in order, and responds as SNS does.
func (b batch) publish(w http.ResponseWriter, r *http.Request, emulator *url.URL, transport http.RoundTripper) {
	type entry struct {
		ID          string `xml:"Id"`
		MessageID   string `xml:"MessageId,omitempty"`
		Code        string `xml:"Code,omitempty"`
		SenderFault bool   `xml:"SenderFault,omitempty"`
	}
	var done, failed []entry
	for _, n := range slices.Sorted(maps.Keys(b.entries)) {
		form := maps.Clone(b.entries[n])
		id := form.Get("Id")
		form.Del("Id")
		form.Set("TopicArn", b.topic)
		message, err := publishOne(r, form, emulator, transport)
		if err != nil {
			failed = append(failed, entry{ID: id, Code: err.Error(), SenderFault: true})
			continue
		}
		done = append(done, entry{ID: id, MessageID: message})
	}
	var response struct {
		XMLName xml.Name `xml:"PublishBatchResponse"`
		Result  struct {
			Successful []entry `xml:"Successful>member"`
			Failed     []entry `xml:"Failed>member"`
		} `xml:"PublishBatchResult"`
	}
	response.Result.Successful, response.Result.Failed = done, failed
	w.Header().Set("Content-Type", "text/xml")
	_ = xml.NewEncoder(w).Encode(response)
}

// publishOne returns the message's id. The text of an error is the code of the emulator's. The emulator refuses texts
// in forms that look like numbers, so such attributes are left out.
func publishOne(r *http.Request, form url.Values, emulator *url.URL, transport http.RoundTripper) (string, error) {
	for name, values := range form {
		entry, ok := strings.CutSuffix(name, ".Value.StringValue")
		if _, err := strconv.ParseFloat(values[0], 64); ok && err == nil {
			for _, part := range []string{".Name", ".Value.DataType", ".Value.StringValue"} {
				form.Del(entry + part)
			}
		}
	}
	form.Set("Action", "Publish")
	form.Set("Version", "2010-03-31")
	out, err := http.NewRequestWithContext(r.Context(), http.MethodPost, emulator.String()+r.URL.Path,
		strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	out.Header = r.Header.Clone()
	out.Header.Del("Content-Length")
	out.Host = r.Host
	response, err := transport.RoundTrip(out)
	if err != nil {
		return "", errors.New("InternalError")
	}
	defer response.Body.Close()
	var content struct {
		MessageID string `xml:"PublishResult>MessageId"`
		Code      string `xml:"Error>Code"`
	}
	if err := xml.NewDecoder(response.Body).Decode(&content); err != nil {
		return "", errors.New("InternalError")
	}
	_, _ = io.Copy(io.Discard, response.Body)
	if response.StatusCode != http.StatusOK {
		return "", errors.New(content.Code)
	}
	return content.MessageID, nil
}

// ordered adds to each message that SQS hands out its sequence number as an attribute, and sorts them by it. The
// emulator puts messages back in no order whose visibility has ended.
func ordered(r *http.Response) error {
	if r.StatusCode != http.StatusOK || r.Request.Header.Get("X-Amz-Target") != "AmazonSQS.ReceiveMessage" {
		return nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if sorted, err := sortMessages(body); err == nil {
		body = sorted
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}

func sortMessages(body []byte) ([]byte, error) {
	var content struct{ Messages []map[string]any }
	if err := json.Unmarshal(body, &content); err != nil || len(content.Messages) == 0 {
		return body, err
	}
	number := func(m map[string]any) int {
		text, _ := m["SequenceNumber"].(string)
		n, _ := strconv.Atoi(text)
		return n
	}
	slices.SortStableFunc(content.Messages, func(a, b map[string]any) int { return cmp.Compare(number(a), number(b)) })
	for _, m := range content.Messages {
		if attributes, ok := m["Attributes"].(map[string]any); ok && number(m) > 0 {
			attributes["SequenceNumber"] = m["SequenceNumber"]
		}
	}
	return json.Marshal(content)
}
